from histoboost.cli import main

main(prog_name="histoboost")
