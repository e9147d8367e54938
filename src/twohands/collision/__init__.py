"""Do two hands pass through one another: exactly, where it is measured, and fast, where it is differentiated."""
