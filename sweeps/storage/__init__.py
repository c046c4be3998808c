"""Where a study is kept: opened, locked, tried again while it is away, and what is kept in it."""
