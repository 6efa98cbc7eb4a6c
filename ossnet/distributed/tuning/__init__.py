"""A study: search space, searcher, storage, scheduler, trials and their result."""
