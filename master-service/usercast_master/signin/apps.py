from django.apps import AppConfig


class SigninConfig(AppConfig):
    name = "usercast_master.signin"
    verbose_name = "Sign-in"

    def ready(self) -> None:
        from axes.signals import user_locked_out
        from django.contrib.auth.signals import user_logged_in

        from usercast_master.signin import lockout, second_factor

        user_locked_out.connect(lockout.log_lockout, dispatch_uid="usercast log_lockout")
        user_logged_in.connect(second_factor.note_password, dispatch_uid="usercast note_password")
