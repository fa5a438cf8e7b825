"""Tier 2: what a node is made of. All of it runs inside the cluster's namespaces."""

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster import cgroups, dns, stock
from e2e.cluster.control_plane import POD_RANGE, SERVICE_RANGE, ControlPlane
from e2e.cluster.faults import MissingPrograms, NotPermitted
from e2e.cluster.isolation import do
from e2e.cluster.programs import Programs

NAME = "node0"
ADDRESS = "10.245.0.1"
USERS = {
    "kubelet": (f"system:node:{NAME}", "system:nodes"),
    "proxy": ("system:kube-proxy", ""),
}
NEEDED = ("containerd", "ctr", "runc", "iptables", "ip", "mount", "unshare", "nsenter")
PLUGIN_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))
CONTAINERD = Path("/run/containerd/containerd.sock")
BRIDGE_FILTER = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")


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


@dataclass(frozen=True, slots=True)
class Node:
    """The one node of a cluster.

    Args:
        control_plane: what it belongs to.
        cgroup: the name of the cgroup that holds its pods.
    """

    control_plane: ControlPlane
    cgroup: str

    @property
    def root(self) -> Path:
        """The cluster's folder, as seen from inside."""
        return self.control_plane.place.root

    def lay_network(self) -> None:
        """Give the namespace its interfaces, addresses and routes."""
        do("ip", "link", "set", "lo", "up")
        # Not every kernel has "dummy" devices; a bridge without ports holds an address as well.
        do("ip", "link", "add", NAME, "type", "bridge")
        do("ip", "address", "add", f"{ADDRESS}/32", "dev", NAME)
        do("ip", "link", "set", NAME, "up")
        # kube-proxy rewrites what is sent there, but only what has a route is sent at all.
        do("ip", "route", "add", SERVICE_RANGE, "dev", NAME)
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        BRIDGE_FILTER.write_text("1")

    def start_containers(self, programs: Programs) -> None:
        """Start containerd and give it the stock images."""
        cgroups.make(self.cgroup)
        self._write_plugin_config()
        config = self.root / "containerd.toml"
        config.write_text(self._containerd_config())
        programs.start("containerd", ["containerd", "--config", config])
        programs.wait_until("containerd answers", _containerd_answers, 60)
        archive = self.root / "stock.tar"
        stock.write_archive(self.control_plane.binaries / stock.PROGRAM, archive)
        do("ctr", f"--address={CONTAINERD}", "--namespace=k8s.io", "images", "import", str(archive))

    def start(self, programs: Programs) -> None:
        """Start the kubelet and kube-proxy, and wait until pods can run."""
        self._start_kubelet(programs)
        self._start_proxy(programs)
        programs.wait_until("the node is ready", self._is_ready, 120)

    def _write_plugin_config(self) -> None:
        leases = {"type": "host-local", "dataDir": str(self.root / "addresses")}
        pods = POD_RANGE.replace("0.0/16", "0.0/24")
        bridge = {
            "type": "bridge",
            "bridge": "pods0",
            "isGateway": True,
            "ipMasq": True,
            "hairpinMode": True,  # a pod may be sent to itself by its Service
            "ipam": leases | {"ranges": [[{"subnet": pods}]], "routes": [{"dst": "0.0.0.0/0"}]},
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
state = "/run/containerd"
[grpc]
address = "{CONTAINERD}"
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
            "address": ADDRESS,
            # Open, for logs, exec and port-forward: only this namespace can reach it.
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self.cgroup}",
            "failCgroupV1": False,
            "failSwapOn": False,
            "oomScoreAdj": 0,
            "containerRuntimeEndpoint": f"unix://{CONTAINERD}",
            "clusterDNS": [dns.ADDRESS],
            "clusterDomain": "cluster.local",
            "resolvConf": str(resolver),
            "syncFrequency": "10s",
            "volumePluginDir": str(self.root / "volume-plugins"),
            # An image that the kubelet cleans away cannot be pulled again.
            "imageGCHighThresholdPercent": 100,
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%"},
        }
        programs.start(
            "kubelet",
            [
                self.control_plane.binaries / "hyperkube",
                "kubelet",
                f"--config={self._written('kubelet.json', config)}",
                f"--kubeconfig={self.control_plane.kubeconfig_of('kubelet')}",
                f"--root-dir={self.root / 'kubelet'}",
                f"--cert-dir={self.root / 'kubelet-certificates'}",
                f"--hostname-override={NAME}",
                f"--node-ip={ADDRESS}",
            ],
        )

    def _start_proxy(self, programs: Programs) -> None:
        config = {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "iptables",
            "clientConnection": {"kubeconfig": str(self.control_plane.kubeconfig_of("proxy"))},
            "clusterCIDR": POD_RANGE,
            "hostnameOverride": NAME,
            "oomScoreAdj": 0,
            # The machine's limits stay what they are.
            "conntrack": {"maxPerCore": 0, "min": 0},
        }
        file = self._written("kube-proxy.json", config)
        program = self.control_plane.binaries / "hyperkube"
        programs.start("kube-proxy", [program, "kube-proxy", f"--config={file}"])

    def _written(self, name: str, config: dict[str, object]) -> Path:
        path = self.root / name
        path.write_text(json.dumps(config))
        return path

    def _is_ready(self) -> bool:
        status, body = self.control_plane.get(f"/api/v1/nodes/{NAME}")
        if status != 200:
            return False
        node = json.loads(body)
        ready = {"type": "Ready", "status": "True"}
        conditions = node["status"].get("conditions", [])
        return not node["spec"].get("taints") and any(
            ready.items() <= one.items() for one in conditions
        )


def _containerd_answers() -> bool:
    asked = subprocess.run(
        ["ctr", f"--address={CONTAINERD}", "version"], capture_output=True, check=False
    )
    return asked.returncode == 0
