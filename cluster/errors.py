"""What can go wrong in `cluster`: the message is written for the person who reads it."""


class ClusterError(Exception):
    """Root of every error that `cluster` raises on purpose."""


class ConnectionRefusedByClusterError(ClusterError):
    """No cluster answers at the address, or it refuses this client."""


class PlacementError(ClusterError):
    """No node of the cluster can ever hold what a trial asks for."""
