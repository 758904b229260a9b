"""Preprocessing travels with the model: options → steps → baked into the graph, or the artifact's `preprocess` layer.

`options` reads the command line's words, `planning` makes the document, `runner` executes it in front of a model with
the code that a device runs (`outrider_protocol.prepare`), `baked` writes it into a finished ONNX candidate.

Candidates are built and calibrated behind the preprocessing, on prepared samples: no quantizer ever sees it.
"""
