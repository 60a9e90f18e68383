# The notebooks in JupyterLab, on PyTorch without CUDA. What you write stays in my-notebooks on your machine:
#   docker build -t spear-tutorial .
#   docker run --rm -p 127.0.0.1:8888:8888 -v "$PWD/my-notebooks:/home/reader/my-notebooks" spear-tutorial
# and open the address that it prints.
FROM python:3.12-slim
RUN useradd --create-home --uid 1000 reader
COPY . /src
RUN python -m pip install --no-cache-dir uv \
    && uv pip install --system --no-cache --torch-backend cpu -c /src/constraints.txt /src \
    && rm -r /src
USER reader
WORKDIR /home/reader
EXPOSE 8888
CMD ["spear-tutorial", "start", "my-notebooks", "--no-browser", "--ip=0.0.0.0", "--port=8888"]
