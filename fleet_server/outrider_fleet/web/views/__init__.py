"""View models: frozen data, made from rows without I/O, that templates only lay out."""
