"""Orders in which waiting tasks go, one file each. Never: what a task is, or where it is kept."""
