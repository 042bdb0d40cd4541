"""A weather provider of our own that speaks OpenWeather's wire format."""
