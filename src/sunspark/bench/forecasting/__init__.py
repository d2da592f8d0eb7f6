"""What a training will take and cost, said before it is paid for."""
