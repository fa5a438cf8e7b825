"""Messages of status.proto; `make protos` writes this module."""

from flambeau_runtime.api.grpc.protos import pool

globals().update(
    pool.add(
        "flambeau_runtime/api/grpc/protos/status.proto",
        b'\n-flambeau_runtime/api/grpc/prot'
        b'os/status.proto\x12\ngoogle.rpc\x1a\x19goo'
        b'gle/protobuf/any.proto"f\n\x06Status'
        b'\x12\x12\n\x04code\x18\x01 \x01(\x05R\x04code\x12\x18\n\x07message\x18'
        b'\x02 \x01(\tR\x07message\x12.\n\x07details\x18\x03 \x03(\x0b2'
        b'\x14.google.protobuf.AnyR\x07details"\xb9'
        b'\x01\n\tErrorInfo\x12\x16\n\x06reason\x18\x01 \x01(\tR\x06re'
        b'ason\x12\x16\n\x06domain\x18\x02 \x01(\tR\x06domain\x12?\n\x08'
        b'metadata\x18\x03 \x03(\x0b2#.google.rpc.Erro'
        b'rInfo.MetadataEntryR\x08metadata\x1a;\n'
        b'\rMetadataEntry\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key'
        b'\x12\x14\n\x05value\x18\x02 \x01(\tR\x05value:\x028\x01b\x06prot'
        b'o3'
    )
)
