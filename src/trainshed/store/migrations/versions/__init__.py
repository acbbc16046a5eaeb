"""One file a migration, in order of their numbers. A migration that was released is never changed."""
