"""How far the labels of a judge can stand in for human labels: label by label, system by system."""
