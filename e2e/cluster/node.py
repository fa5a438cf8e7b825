"""Tier 2: what a node is made of. All of it runs inside the cluster's namespaces.

The first node shares them with the control plane. Each further one has a network and mounts of its
own in there, and a cable to the first one's bridge.
"""

import json
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from e2e.cluster import cgroups, dns, isolation, stock
from e2e.cluster.control_plane import POD_RANGE, SERVICE_RANGE, ControlPlane
from e2e.cluster.faults import MissingPrograms, NotPermitted
from e2e.cluster.isolation import do
from e2e.cluster.programs import Programs

ADDRESS = "10.245.0.1"  # of the first one, and so of the API server
SWITCH = "node0"
NEEDED = ("containerd", "ctr", "runc", "iptables", "ip", "mount", "unshare", "nsenter")
PLUGIN_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))
BRIDGE_FILTER = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
SYSCTLS = (Path("/proc/sys/net/ipv4/ip_forward"), BRIDGE_FILTER)


def check_programs() -> None:
    """Raise MissingPrograms unless the machine has what a node is made of."""
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if not any((folder / "bridge").exists() for folder in PLUGIN_FOLDERS):
        missing.append("CNI plugins")
    if missing:
        raise MissingPrograms(
            missing, "on Debian and its kin run, as root: e2e/cluster/packages.sh"
        )
    if not BRIDGE_FILTER.exists():
        raise NotPermitted("the kernel lacks br_netfilter: as root, modprobe br_netfilter")


def address(number: int) -> str:
    """Return the address of a node."""
    return f"10.245.0.{number + 1}"


def pod_range(number: int) -> str:
    """Return the addresses of a node's pods."""
    return POD_RANGE.replace("0.0/16", f"{number}.0/24")


def containerd(number: int) -> Path:
    """Return a node's containerd's socket; `ctr` looks for the first one's by itself."""
    if number == 0:
        return Path("/run/containerd/containerd.sock")
    return isolation.INSIDE / f"node{number}" / "containerd.sock"


def import_words(number: int) -> list[str]:
    """Return the words before an archive's path that give its images to a node."""
    here = f"--address={containerd(number)}"
    return ["ctr", here, "--namespace=k8s.io", "images", "import"]


@dataclass(slots=True)
class Node:
    """One node of a cluster.

    Args:
        control_plane: what it belongs to.
        cluster_cgroup: the name of the cgroup that holds all of the cluster's pods.
        number: 0 for the first one.
    """

    control_plane: ControlPlane
    cluster_cgroup: str
    number: int
    _enter: list[str] = field(default_factory=list)  # precedes a command to run it on the node

    @property
    def name(self) -> str:
        """The node's name, in the cluster and for its folder."""
        return f"node{self.number}"

    @property
    def users(self) -> dict[str, tuple[str, str]]:
        """Whom its programs sign in as."""
        return {
            self._named("kubelet"): (f"system:node:{self.name}", "system:nodes"),
            self._named("proxy"): ("system:kube-proxy", ""),
        }

    @property
    def root(self) -> Path:
        """The node's folder, as seen from inside."""
        return self.control_plane.place.root / self.name

    @property
    def cgroup(self) -> str:
        """The name of the cgroup that holds its pods: a kubelet removes what it finds in there."""
        return f"{self.cluster_cgroup}/{self.name}"

    def make(self, programs: Programs) -> None:
        """Give it a folder, a cgroup, and a network with interfaces, addresses and routes."""
        self.root.mkdir()
        cgroups.make(self.cluster_cgroup)
        cgroups.make(self.cgroup)
        if self.number == 0:
            self._lay_switch()
        else:
            holder = self._move_out(programs)
            self._plug_in(holder)
        for sysctl in SYSCTLS:
            self._do("sh", "-c", f"echo 1 >{sysctl}")

    def start_containers(self, programs: Programs) -> None:
        """Start containerd and give it the stock images."""
        self._write_plugin_config()
        config = self.root / "containerd.toml"
        config.write_text(self._containerd_config())
        self._start(programs, "containerd", ["containerd", "--config", config])
        programs.wait_until(f"containerd answers on {self.name}", self._containerd_answers, 60)
        archive = self.root / "stock.tar"
        stock.write_archive(self.control_plane.binaries / stock.PROGRAM, archive)
        do(*import_words(self.number), str(archive))

    def start(self, programs: Programs) -> None:
        """Start the kubelet and kube-proxy."""
        self._start_kubelet(programs)
        self._start_proxy(programs)

    def await_ready(self, programs: Programs) -> None:
        """Wait until pods can run."""
        programs.wait_until(f"{self.name} is ready", self._is_ready, 120)

    def _named(self, what: str) -> str:
        # Those of the first node are called as on a cluster of one.
        return what if self.number == 0 else f"{what}-{self.name}"

    def _do(self, *argv: str) -> None:
        do(*self._enter, *argv)

    def _start(self, programs: Programs, name: str, argv: Iterable[str | Path]) -> None:
        programs.start(self._named(name), [*self._enter, *argv])

    def _lay_switch(self) -> None:
        do("ip", "link", "set", "lo", "up")
        # Not every kernel has "dummy" devices; a bridge holds an address too.
        do("ip", "link", "add", SWITCH, "type", "bridge")
        do("ip", "address", "add", f"{ADDRESS}/24", "dev", SWITCH)
        do("ip", "link", "set", SWITCH, "up")
        # kube-proxy rewrites what is sent there, but only what has a route is sent at all.
        do("ip", "route", "add", SERVICE_RANGE, "dev", SWITCH)

    def _move_out(self, programs: Programs) -> int:
        """Make the node's namespaces; return the pid of the process that holds them."""
        pause = [str(self.control_plane.binaries / stock.PROGRAM), "pause"]
        pid = programs.start(self.name, isolation.apart(pause))
        programs.wait_until(f"{self.name} is apart", lambda: isolation.is_apart(pid), 30)
        self._enter = isolation.joining(pid)
        isolation.arrange_apart(self._enter, self.root)
        return pid

    def _plug_in(self, holder: int) -> None:
        cable = f"to-{self.name}"
        there = ["peer", "name", self.name, "netns", str(holder)]
        do("ip", "link", "add", cable, "type", "veth", *there)
        do("ip", "link", "set", cable, "master", SWITCH, "up")
        self._do("ip", "link", "set", "lo", "up")
        self._do("ip", "address", "add", f"{address(self.number)}/24", "dev", self.name)
        self._do("ip", "link", "set", self.name, "up")
        self._do("ip", "route", "add", SERVICE_RANGE, "dev", self.name)
        # The first node knows the way to every node's pods, and the others send by way of it.
        self._do("ip", "route", "add", POD_RANGE, "via", ADDRESS)
        do("ip", "route", "add", pod_range(self.number), "via", address(self.number))

    def _write_plugin_config(self) -> None:
        leases = {"type": "host-local", "dataDir": str(self.root / "addresses")}
        bridge = {
            "type": "bridge",
            "bridge": "pods0",
            "isGateway": True,
            "ipMasq": False,  # a pod is known by its own address on every node
            "hairpinMode": True,  # a pod may be sent to itself by its Service
            "ipam": leases
            | {"ranges": [[{"subnet": pod_range(self.number)}]], "routes": [{"dst": "0.0.0.0/0"}]},
        }
        ports = {"type": "portmap", "capabilities": {"portMappings": True}}
        network = {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge, ports]}
        folder = self.root / "cni"
        folder.mkdir()
        (folder / "pods.conflist").write_text(json.dumps(network))

    def _containerd_config(self) -> str:
        plugins = next(folder for folder in PLUGIN_FOLDERS if (folder / "bridge").exists())
        cri = 'plugins."io.containerd.grpc.v1.cri"'
        return f"""
version = 2
root = "{self.root}/containerd"
state = "/run/containerd/{self.name}"
[grpc]
address = "{containerd(self.number)}"
[{cri}]
sandbox_image = "{stock.PAUSE}"
# Where the capability to lower a score is missing, every sandbox would die of it.
restrict_oom_score_adj = true
[{cri}.containerd]
snapshotter = "overlayfs"
default_runtime_name = "runc"
[{cri}.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[{cri}.containerd.runtimes.runc.options]
SystemdCgroup = false
[{cri}.cni]
bin_dir = "{plugins}"
conf_dir = "{self.root}/cni"
"""

    def _start_kubelet(self, programs: Programs) -> None:
        resolver = self.root / "resolv.conf"
        resolver.touch()  # there is no name server beyond the cluster's own
        config = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": address(self.number),
            # Open, for logs, exec and port-forward: only this namespace can reach it.
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self.cgroup}",
            "failCgroupV1": False,
            "failSwapOn": False,
            "oomScoreAdj": 0,
            "containerRuntimeEndpoint": f"unix://{containerd(self.number)}",
            "clusterDNS": [dns.ADDRESS],
            "clusterDomain": "cluster.local",
            "resolvConf": str(resolver),
            "syncFrequency": "10s",
            "volumePluginDir": str(self.root / "volume-plugins"),
            # An image that the kubelet cleans away cannot be pulled again.
            "imageGCHighThresholdPercent": 100,
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%"},
        }
        self._start(
            programs,
            "kubelet",
            [
                self.control_plane.binaries / "hyperkube",
                "kubelet",
                f"--config={self._written('kubelet.json', config)}",
                f"--kubeconfig={self.control_plane.kubeconfig_of(self._named('kubelet'))}",
                f"--root-dir={self.root / 'kubelet'}",
                f"--cert-dir={self.root / 'kubelet-certificates'}",
                f"--hostname-override={self.name}",
                f"--node-ip={address(self.number)}",
            ],
        )

    def _start_proxy(self, programs: Programs) -> None:
        kubeconfig = self.control_plane.kubeconfig_of(self._named("proxy"))
        config = {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "iptables",
            "clientConnection": {"kubeconfig": str(kubeconfig)},
            "clusterCIDR": POD_RANGE,
            "hostnameOverride": self.name,
            "oomScoreAdj": 0,
            # The machine's limits stay what they are.
            "conntrack": {"maxPerCore": 0, "min": 0},
        }
        file = self._written("kube-proxy.json", config)
        program = self.control_plane.binaries / "hyperkube"
        self._start(programs, "kube-proxy", [program, "kube-proxy", f"--config={file}"])

    def _written(self, name: str, config: dict[str, object]) -> Path:
        path = self.root / name
        path.write_text(json.dumps(config))
        return path

    def _is_ready(self) -> bool:
        status, body = self.control_plane.get(f"/api/v1/nodes/{self.name}")
        if status != 200:
            return False
        node = json.loads(body)
        ready = {"type": "Ready", "status": "True"}
        conditions = node["status"].get("conditions", [])
        return not node["spec"].get("taints") and any(
            ready.items() <= one.items() for one in conditions
        )

    def _containerd_answers(self) -> bool:
        ask = ["ctr", f"--address={containerd(self.number)}", "version"]
        return subprocess.run(ask, capture_output=True, check=False).returncode == 0
