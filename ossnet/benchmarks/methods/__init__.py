"""What each way to predict loses and costs, on trained networks and prepared cases."""
