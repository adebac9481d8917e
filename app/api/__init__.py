"""REST under /api/v1: thin endpoints over `app.runs`, `app.experiments` and `app.queries`."""
