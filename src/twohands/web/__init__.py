"""Pages in a browser: a page that takes photos, a viewer of results, a report of a run."""
