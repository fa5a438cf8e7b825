"""Messages of inference.proto; `make protos` writes this module."""

from flambeau_runtime.api.grpc.protos import pool
from flambeau_runtime.api.grpc.protos import status_pb2  # noqa: F401  its names come first

globals().update(
    pool.add(
        "flambeau_runtime/api/grpc/protos/inference.proto",
        b'\n0flambeau_runtime/api/grpc/prot'
        b'os/inference.proto\x12 org.pytorch.'
        b'serve.grpc.inference\x1a\x1bgoogle/pro'
        b'tobuf/empty.proto\x1a-flambeau_runt'
        b'ime/api/grpc/protos/status.proto'
        b'"\x9f\x02\n\x12PredictionsRequest\x12\x1d\n\nmodel'
        b'_name\x18\x01 \x01(\tR\tmodelName\x12#\n\rmodel_'
        b'version\x18\x02 \x01(\tR\x0cmodelVersion\x12U\n\x05i'
        b'nput\x18\x03 \x03(\x0b2?.org.pytorch.serve.g'
        b'rpc.inference.PredictionsRequest'
        b'.InputEntryR\x05input\x12$\n\x0bsequence_i'
        b'd\x18\x04 \x01(\tH\x00R\nsequenceId\x88\x01\x01\x1a8\n\nInpu'
        b'tEntry\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x12\x14\n\x05valu'
        b'e\x18\x02 \x01(\x0cR\x05value:\x028\x01B\x0e\n\x0c_sequence_'
        b'id"\xa6\x01\n\x12PredictionResponse\x12\x1e\n\npre'
        b'diction\x18\x01 \x01(\x0cR\nprediction\x12$\n\x0bseq'
        b'uence_id\x18\x02 \x01(\tH\x00R\nsequenceId\x88\x01\x01\x12'
        b'/\n\x06status\x18\x03 \x01(\x0b2\x12.google.rpc.Sta'
        b'tusH\x01R\x06status\x88\x01\x01B\x0e\n\x0c_sequence_id'
        b'B\t\n\x07_status"2\n\x18TorchServeHealthR'
        b'esponse\x12\x16\n\x06health\x18\x01 \x01(\tR\x06health2'
        b'\xf8\x03\n\x14InferenceAPIsService\x12Z\n\x04Ping'
        b'\x12\x16.google.protobuf.Empty\x1a:.org.p'
        b'ytorch.serve.grpc.inference.Torc'
        b'hServeHealthResponse\x12y\n\x0bPredicti'
        b'ons\x124.org.pytorch.serve.grpc.inf'
        b'erence.PredictionsRequest\x1a4.org.'
        b'pytorch.serve.grpc.inference.Pre'
        b'dictionResponse\x12\x81\x01\n\x11StreamPredic'
        b'tions\x124.org.pytorch.serve.grpc.i'
        b'nference.PredictionsRequest\x1a4.or'
        b'g.pytorch.serve.grpc.inference.P'
        b'redictionResponse0\x01\x12\x84\x01\n\x12StreamPr'
        b'edictions2\x124.org.pytorch.serve.g'
        b'rpc.inference.PredictionsRequest'
        b'\x1a4.org.pytorch.serve.grpc.infere'
        b'nce.PredictionResponse(\x010\x01b\x06prot'
        b'o3'
    )
)
