"""Managed file servers on this machine: each is a process of its own with an NFS server, its disks and SSH logins."""
