"""What a picture is, whether the service takes it, and how it is sent."""
