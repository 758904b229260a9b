"""Preprocessing travels with the model: options → steps → baked into the graph, or the artifact's `preprocess` layer.

`options` reads the command line's words, `planning` makes the document, `baked` writes it into an ONNX graph, `runner`
executes it in front of a model whose file cannot hold it, with the code that a device runs
(`outrider_protocol.prepare`).
"""
