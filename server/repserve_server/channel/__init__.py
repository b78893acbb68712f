"""What crosses process borders: image slots in shared memory and small fixed-size messages."""
