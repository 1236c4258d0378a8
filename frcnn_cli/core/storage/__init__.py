"""Images that are not files of this machine: behind a URL, in a tar archive, or in a Parquet table."""
