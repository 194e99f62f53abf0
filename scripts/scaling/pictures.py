"""The pictures of the report, in the order of the page."""

from operator_pictures import bytes_picture, ceiling_pictures, crossover_pictures
from overview import overview_picture
from step_pictures import efficiency_picture, memory_picture, packing_picture, speed_up_picture, time_picture

DEVICES = (("cuda", "On GPUs"), ("cpu", "On CPU cores"))


def all_pictures(results):
    """The overview, then those of every device: its figures are compared with each other only."""
    found = [overview_picture(results)]
    for device, section in DEVICES:
        part = results.on(device)
        if not any(row["exit"] == 0 for row in part.tables["runs"]):
            continue
        pictures = [speed_up_picture(part), efficiency_picture(part, "strong"), efficiency_picture(part, "weak"),
                    time_picture(part), memory_picture(part), packing_picture(part), bytes_picture(part)]
        pictures += crossover_pictures(part) + ceiling_pictures(part)
        for picture in pictures:
            picture.section = section
            if device != "cpu" and f"-{device}" not in picture.name:
                picture.name += f"-{device}"
        found += pictures
    return found
