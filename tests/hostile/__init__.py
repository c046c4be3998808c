"""Files that are somebody else's, made to do harm: `files` makes them, `reading` reads them."""
