"""The web application: REST, pages, tables, queue. Never imports torch."""
