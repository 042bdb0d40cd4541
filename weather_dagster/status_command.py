"""``weather status``: one screen that answers whether it is healthy, and an exit code for cron."""
