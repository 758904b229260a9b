"""The embedded MQTT broker, who is admitted to it, and the server's own connection."""
