"""How a space is searched: samplers that propose trials, pruners that end them."""
