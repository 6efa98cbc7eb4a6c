"""A copy of MLflow's file in object storage, for heads of rented clusters."""
