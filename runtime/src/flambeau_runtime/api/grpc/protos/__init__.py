"""What travels over the gRPC ports: the .proto files, and the modules written from them."""
