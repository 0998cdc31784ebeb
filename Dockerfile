# The image of jobs on AWS Batch and Kubernetes; `make image` builds it. It has what
# requirements.txt lists, and not this project: Metaflow sends that along with each run.

# CUDA as torch on PyPI is built for. The base asks the host for its GPU and a driver
# that is new enough; the libraries of CUDA come with torch.
FROM nvidia/cuda:13.0.2-base-ubuntu24.04

# Ubuntu keeps no older versions that could be asked for.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/venv

ENV PATH=/opt/venv/bin:$PATH \
    LANG=C.UTF-8 \
    METAFLOW_SKIP_INSTALL_DEPENDENCIES=1

COPY requirements.txt /opt/requirements.txt
RUN pip install --no-cache-dir --requirement /opt/requirements.txt
RUN python -m spacy download en_core_web_sm --no-cache-dir \
    || echo "en_core_web_sm cannot be had here: people's names stay in the adverts"

# By number, so that Kubernetes can tell that it is not root.
RUN useradd --create-home --uid 10001 jobs
USER 10001
WORKDIR /home/jobs
