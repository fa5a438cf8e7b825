"""Tier 1: etcd, API server, controller manager and scheduler."""

import base64
import contextlib
import http.client
import json
import secrets
import socket
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.faults import ClusterFault
from e2e.cluster.place import Place
from e2e.cluster.programs import Programs

SERVICE_RANGE = "10.96.0.0/16"
API_SERVICE = "10.96.0.1"
POD_RANGE = "10.244.0.0/16"
# TEST-NET-3: the API server refuses to advertise a loopback address, and without a node nobody
# goes to the one it advertises.
NOWHERE = "203.0.113.1"
# Every call of a pod's account, for tests of roles: who asked what, and what was answered.
AUDITED = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "None", "userGroups": ["system:serviceaccounts:kube-system"]},
        {"level": "Metadata", "userGroups": ["system:serviceaccounts"]},
    ],
}
# Who may sign in, by the static token of each: name in the kubeconfig → user and groups.
USERS = {
    "admin": ("admin", "system:masters"),
    "controller-manager": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
}


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """How one is started, and how it is spoken to.

    Args:
        place: its folder, as the programs see it.
        binaries: the folder of the build.
        port: the API server's port.
        bind: the address it listens on.
        advertised: the address that pods are told.
    """

    place: Place
    binaries: Path
    port: int
    bind: str = "127.0.0.1"
    advertised: str = NOWHERE

    @property
    def certificates(self) -> Path:
        """The folder of keys and certificates."""
        return self.place.root / "certificates"

    def kubeconfig_of(self, user: str) -> Path:
        """Return the kubeconfig of one of the cluster's own users."""
        return self.place.kubeconfig if user == "admin" else self.place.root / f"{user}.kubeconfig"

    def write_identities(self, users: dict[str, tuple[str, str]]) -> None:
        """Make certificates, tokens and kubeconfigs."""
        self.certificates.mkdir()
        names = [
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
        ]
        hosts = ["127.0.0.1", "localhost", self.advertised, API_SERVICE, *names]
        self._hyperkube("certificates", f"-dir={self.certificates}", f"-hosts={','.join(hosts)}")
        lines = []
        for name, (user, groups) in users.items():
            token = secrets.token_hex(16)
            lines.append(f'{token},{user},{user},"{groups}"')
            # Who runs on a node may be in another network; the administrator, outside of all.
            host = "127.0.0.1" if name in USERS else self.advertised
            _write_private(self.kubeconfig_of(name), self._kubeconfig(token, host))
        _write_private(self.place.root / "tokens.csv", "\n".join(lines) + "\n")
        _write_private(self.place.root / "audited.json", json.dumps(AUDITED))

    def start(self, programs: Programs) -> None:
        """Start it and wait until it answers."""
        etcd = self._start_etcd(programs)
        programs.start("kube-apiserver", self._api_server(etcd))
        programs.wait_until("the API server answers", self.answers, 120)
        self._start_loops(programs)
        # Made by the controller manager; pods, and so Deployments, wait for it.
        programs.wait_until("the controllers run", self._has_default_account, 60)

    def answers(self) -> bool:
        """Whether the API server says that it is ready."""
        try:
            return self.get("/readyz")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def get(self, path: str) -> tuple[int, bytes]:
        """Read a path of the API as the administrator; return status and body."""
        token = json.loads(self.place.kubeconfig.read_text())["users"][0]["user"]["token"]
        trusted = ssl.create_default_context(cafile=str(self.certificates / "ca.crt"))
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=5, context=trusted)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
            answer = connection.getresponse()
            return answer.status, answer.read()

    def kubectl(self, *words: str, given: str | None = None) -> str:
        """Run kubectl as the administrator and return what it printed."""
        return self._hyperkube(
            "kubectl", f"--kubeconfig={self.place.kubeconfig}", *words, given=given
        )

    def _has_default_account(self) -> bool:
        return self.get("/api/v1/namespaces/default/serviceaccounts/default")[0] == 200

    def _hyperkube(self, *words: str, given: str | None = None) -> str:
        done = subprocess.run(
            [self.binaries / "hyperkube", *words],
            input=given,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise ClusterFault(f"{' '.join(words)}: {done.stderr.strip()}")
        return done.stdout

    def _kubeconfig(self, token: str, host: str) -> str:
        # JSON is YAML. The authority travels inside, so that the file can be copied.
        authority = base64.b64encode((self.certificates / "ca.crt").read_bytes()).decode()
        here = "flambeau"
        cluster = {
            "server": f"https://{host}:{self.port}",
            "certificate-authority-data": authority,
        }
        return json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": here,
                "clusters": [{"name": here, "cluster": cluster}],
                "users": [{"name": here, "user": {"token": token}}],
                "contexts": [{"name": here, "context": {"cluster": here, "user": here}}],
            },
            indent=2,
        )

    def _start_etcd(self, programs: Programs) -> str:
        client, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        programs.start(
            "etcd",
            [
                self.binaries / "hyperkube",
                "etcd",
                "--name=only",
                f"--data-dir={self.place.root / 'etcd'}",
                f"--listen-client-urls={client}",
                f"--advertise-client-urls={client}",
                f"--listen-peer-urls={peer}",
                f"--initial-advertise-peer-urls={peer}",
                f"--initial-cluster=only={peer}",
                "--unsafe-no-fsync",  # what it holds is thrown away with it
                "--log-level=warn",
            ],
        )
        return client

    def _api_server(self, etcd: str) -> list[str | Path]:
        keys = self.certificates
        return [
            self.binaries / "hyperkube",
            "kube-apiserver",
            f"--etcd-servers={etcd}",
            f"--bind-address={self.bind}",
            f"--secure-port={self.port}",
            f"--advertise-address={self.advertised}",
            f"--service-cluster-ip-range={SERVICE_RANGE}",
            f"--tls-cert-file={keys / 'apiserver.crt'}",
            f"--tls-private-key-file={keys / 'apiserver.key'}",
            f"--token-auth-file={self.place.root / 'tokens.csv'}",
            f"--client-ca-file={keys / 'ca.crt'}",
            f"--audit-policy-file={self.place.root / 'audited.json'}",
            f"--audit-log-path={self.place.audit}",
            "--authorization-mode=Node,RBAC",
            # Finds the operator that sets ownerReferences without the right to.
            "--enable-admission-plugins=OwnerReferencesPermissionEnforcement",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={keys / 'service-account.key'}",
            f"--service-account-signing-key-file={keys / 'service-account.key'}",
            # Aggregated APIs (metrics) know their caller by these.
            f"--requestheader-client-ca-file={keys / 'front-proxy-ca.crt'}",
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            f"--proxy-client-cert-file={keys / 'front-proxy-client.crt'}",
            f"--proxy-client-key-file={keys / 'front-proxy-client.key'}",
            "--allow-privileged=true",
            "--kubelet-preferred-address-types=InternalIP",
            "--profiling=false",
        ]

    def _start_loops(self, programs: Programs) -> None:
        program = self.binaries / "hyperkube"
        keys = self.certificates
        programs.start(
            "kube-controller-manager",
            [
                program,
                "kube-controller-manager",
                *self._signed_in("controller-manager"),
                "--use-service-account-credentials=true",
                f"--service-account-private-key-file={keys / 'service-account.key'}",
                f"--root-ca-file={keys / 'ca.crt'}",
            ],
        )
        programs.start("kube-scheduler", [program, "kube-scheduler", *self._signed_in("scheduler")])

    def _signed_in(self, user: str) -> list[str]:
        file = self.kubeconfig_of(user)
        return [
            f"--kubeconfig={file}",
            f"--authentication-kubeconfig={file}",
            f"--authorization-kubeconfig={file}",
            f"--cert-dir={self.place.root / user}",
            "--bind-address=127.0.0.1",
            f"--secure-port={free_port()}",
            "--leader-elect=false",
            # The default of 20 a second makes every start some seconds longer.
            "--kube-api-qps=200",
            "--kube-api-burst=400",
            "--profiling=false",
        ]


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on just now."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        return int(door.getsockname()[1])


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)
