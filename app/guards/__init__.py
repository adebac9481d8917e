"""What stands before every route, outermost first: headers, hosts, bodies, same site. Who may come in is `app.access.gate`'s."""
