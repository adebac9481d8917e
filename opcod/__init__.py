"""On-Policy Co-Distillation: the method as a library (arXiv 2606.14368).

Importing this package loads no torch: `opcod.config`, `opcod.events` and `opcod.types` serve the web app too.
"""
