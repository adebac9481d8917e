"""Who may do what: people, their sessions and tokens, and the gate that asks for them."""
