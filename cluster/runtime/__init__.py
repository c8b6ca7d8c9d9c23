"""The running system: controller, wiring, Ray, launching."""
