"""Files from the web, whole and right or not at all: `aml_edge.downloading.downloads`."""
