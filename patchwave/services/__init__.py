"""What services need done from the runner: gates, and the load balancer's side of traffic."""
