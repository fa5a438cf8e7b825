"""The gRPC ports: inference, management, the Open Inference Protocol, health, reflection."""
