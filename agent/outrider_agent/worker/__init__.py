"""One worker process per model: it owns the model, its statistics and the data path.

`process` is the loop, `engine` runs the model, `server` speaks HTTP, `service` answers the Open Inference Protocol,
`batches` and `samples` turn answers into telemetry, `shadow` compares a candidate with the worker in charge.
"""
