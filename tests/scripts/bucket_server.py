"""A stand-in for Google Cloud Storage on a loopback port, in memory, with one bucket ``bucket``."""

import sys
import time


def main(port):
    """Serves until it is killed."""
    from gcp_storage_emulator import server
    from gcp_storage_emulator.handlers import objects

    plain_download = objects.download

    def download(request, response, storage, *args, **kwargs):
        """Names the generation of what is downloaded, as the real service does."""
        name = request.params["bucket_name"], request.params["object_id"]
        try:
            response["x-goog-generation"] = str(storage.get_file_obj(*name)["generation"])
        except objects.NotFound:
            pass  # said by the handler itself
        plain_download(request, response, storage, *args, **kwargs)

    objects.download = download
    server.create_server("127.0.0.1", port, in_memory=True, default_bucket="bucket").start()
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main(int(sys.argv[1]))
