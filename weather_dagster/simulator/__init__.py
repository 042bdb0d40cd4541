"""A weather provider of our own that speaks OpenWeather's and Open-Meteo's wire formats."""
