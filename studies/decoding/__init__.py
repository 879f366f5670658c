"""From stored responses to predicted z, b and clips."""
