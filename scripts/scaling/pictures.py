"""The pictures of the report, in the order of the page."""

from operator_pictures import bytes_picture, ceiling_pictures, crossover_pictures
from step_pictures import efficiency_picture, memory_picture, packing_picture, speed_up_picture, time_picture


def all_pictures(results):
    found = [speed_up_picture(results), efficiency_picture(results, "strong"), efficiency_picture(results, "weak"),
             time_picture(results), memory_picture(results), bytes_picture(results)]
    return found + crossover_pictures(results) + ceiling_pictures(results) + [packing_picture(results)]
