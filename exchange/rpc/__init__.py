"""The wire of the exchange: gRPC servicers, thin; everything they do stands in the use cases."""
