"""llama.cpp's own server, as the wheel of xllamacpp carries it: `python llama_cpp_server.py FILE.gguf PORT`."""

import sys
import threading

import xllamacpp

if __name__ == "__main__":
    settings = xllamacpp.CommonParams()
    settings.model.path, settings.port = sys.argv[1], int(sys.argv[2])
    settings.n_ctx, settings.n_parallel = 4096, 1
    server = xllamacpp.Server(settings)
    threading.Event().wait()
