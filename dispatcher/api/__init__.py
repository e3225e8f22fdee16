"""The admin port of a dispatcher: probes, metrics, the calls API and the page."""
