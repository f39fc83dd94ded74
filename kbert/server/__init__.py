"""Serve exported SavedModels over HTTP and gRPC, as TensorFlow Serving does, with TensorFlow and its text operations alone.

In: a directory of numbered versions. Out: TensorFlow Serving's REST API and gRPC services (`rest`, `grpc_service`), which share
`service`: it takes the version asked for (`versions`), puts the request into a queue (`batching`), and waits for its answer.
"""
