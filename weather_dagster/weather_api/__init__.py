"""Weather providers: client, adapters with their contracts, the canonical records."""
