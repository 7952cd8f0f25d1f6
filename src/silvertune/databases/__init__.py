"""Tables that many processes share: how a database is opened, and which process owns a row."""
