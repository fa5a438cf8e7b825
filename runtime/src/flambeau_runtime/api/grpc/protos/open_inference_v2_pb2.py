"""Messages of open_inference_v2.proto; `make protos` writes this module."""

from flambeau_runtime.api.grpc.protos import pool
from flambeau_runtime.api.grpc.protos import open_inference_pb2  # noqa: F401  its names come first

globals().update(
    pool.add(
        "flambeau_runtime/api/grpc/protos/open_inference_v2.proto",
        b'\n8flambeau_runtime/api/grpc/prot'
        b'os/open_inference_v2.proto\x12\tinfe'
        b'rence\x1a5flambeau_runtime/api/grpc'
        b'/protos/open_inference.proto2\xb7\x06\n'
        b'\x14GRPCInferenceService\x12\x7f\n\nServerL'
        b'ive\x127.org.pytorch.serve.grpc.ope'
        b'ninference.ServerLiveRequest\x1a8.o'
        b'rg.pytorch.serve.grpc.openinfere'
        b'nce.ServerLiveResponse\x12\x82\x01\n\x0bServe'
        b'rReady\x128.org.pytorch.serve.grpc.'
        b'openinference.ServerReadyRequest'
        b'\x1a9.org.pytorch.serve.grpc.openin'
        b'ference.ServerReadyResponse\x12\x7f\n\nM'
        b'odelReady\x127.org.pytorch.serve.gr'
        b'pc.openinference.ModelReadyReque'
        b'st\x1a8.org.pytorch.serve.grpc.open'
        b'inference.ModelReadyResponse\x12\x8b\x01\n'
        b'\x0eServerMetadata\x12;.org.pytorch.se'
        b'rve.grpc.openinference.ServerMet'
        b'adataRequest\x1a<.org.pytorch.serve'
        b'.grpc.openinference.ServerMetada'
        b'taResponse\x12\x88\x01\n\rModelMetadata\x12:.o'
        b'rg.pytorch.serve.grpc.openinfere'
        b'nce.ModelMetadataRequest\x1a;.org.p'
        b'ytorch.serve.grpc.openinference.'
        b'ModelMetadataResponse\x12\x7f\n\nModelIn'
        b'fer\x127.org.pytorch.serve.grpc.ope'
        b'ninference.ModelInferRequest\x1a8.o'
        b'rg.pytorch.serve.grpc.openinfere'
        b'nce.ModelInferResponseb\x06proto3'
    )
)
