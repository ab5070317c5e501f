"""Methods x samples x metrics, with intervals."""
